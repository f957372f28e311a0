-module(ends_during_shutdown).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b), scene:spec(c, #{clean_up => 300})],
    Sup = scene:supervisor(#{}, Specs),
    scene:observe(),
    exit(Sup, shutdown),
    scene:settle(),
    scene:fail(b),
    receive {'EXIT', Sup, _} -> scene:say("the supervisor has ended") end.
