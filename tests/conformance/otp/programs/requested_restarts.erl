-module(requested_restarts).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 0}, [scene:spec(it)]),
    scene:observe(),
    [restart(Sup) || _ <- [1, 2]],
    scene:outcome(Sup).

restart(Sup) ->
    ok = supervisor:terminate_child(Sup, it),
    {ok, _} = supervisor:restart_child(Sup, it).
