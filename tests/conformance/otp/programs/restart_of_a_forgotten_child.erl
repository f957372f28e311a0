-module(restart_of_a_forgotten_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{restart => temporary})]),
    scene:observe(),
    scene:return(it),
    {error, Error} = supervisor:restart_child(Sup, it),
    scene:say("restart_child returns the error ~p", [Error]).
