-module(position_after_a_restart).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(Name) || Name <- [a, b, c]]),
    ok = supervisor:terminate_child(Sup, a),
    {ok, _} = supervisor:restart_child(Sup, a),
    scene:fail(b),
    scene:observe(),
    exit(Sup, shutdown),
    scene:settle().
