%% b, whose restart fails, is tried again and again; its group waits with it.
-module(stop_of_a_child_that_waits).
-export([main/0]).

main() ->
    Broken = #{starts_in => 300, broken_runs => [2]},
    Sup = scene:supervisor(#{strategy => rest_for_one}, [scene:spec(a), scene:spec(b, Broken), scene:spec(c)]),
    scene:observe(),
    scene:fail(b),
    ok = supervisor:terminate_child(Sup, b),
    scene:say("b is stopped"),
    timer:sleep(1000),
    scene:children(Sup).
