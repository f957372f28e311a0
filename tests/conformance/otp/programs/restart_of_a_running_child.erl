-module(restart_of_a_running_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it)]),
    scene:observe(),
    {error, Error} = supervisor:restart_child(Sup, it),
    scene:say("restart_child returns the error ~p", [Error]).
