%% b, whose restart fails, is tried again.
-module(start_while_a_group_waits).
-export([main/0]).

main() ->
    Broken = #{starts_in => 300, broken_runs => [2]},
    Sup = scene:supervisor(#{strategy => rest_for_one}, [scene:spec(a), scene:spec(b, Broken)]),
    scene:observe(),
    scene:fail(b),
    {ok, _} = scene:start(Sup, new),
    timer:sleep(1000).
