-module(start_during_shutdown).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{clean_up => 300})]),
    scene:observe(),
    exit(Sup, shutdown),
    scene:settle(),
    try scene:start(Sup, new)
    catch exit:{Reason, _} -> scene:say("start_child raises an exit with ~p, which is caught", [Reason])
    end.
