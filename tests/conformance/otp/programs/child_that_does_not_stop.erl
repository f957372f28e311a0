-module(child_that_does_not_stop).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{clean_up => forever, shutdown => 300})]),
    Ref = monitor(process, it),
    scene:observe(),
    ok = supervisor:terminate_child(Sup, it),
    receive {'DOWN', Ref, _, _, Reason} -> scene:say("it is ~p", [Reason]) end.
