-module(shutdown_order).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(Name, #{clean_up => 100}) || Name <- [a, b, c]]),
    scene:observe(),
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> scene:say("the supervisor has ended") end.
