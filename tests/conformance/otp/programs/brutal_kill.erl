-module(brutal_kill).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{clean_up => 100, shutdown => brutal_kill})]),
    Ref = monitor(process, it),
    scene:observe(),
    ok = supervisor:terminate_child(Sup, it),
    receive {'DOWN', Ref, _, _, Reason} -> scene:say("it is ~p", [Reason]) end.
