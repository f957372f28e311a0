-module(reason_of_an_escalation).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 0}, [scene:spec(it)]),
    scene:observe(),
    scene:fail(it),
    receive {'EXIT', Sup, Reason} -> scene:say("the supervisor exits with ~p", [Reason]) end.
