-module(simple_shutdown).
-export([main/0]).

main() ->
    Simple = scene:simple(#{clean_up => 200, quiet => true}),
    Sup = scene:supervisor(#{strategy => simple_one_for_one}, [Simple]),
    [{ok, _} = supervisor:start_child(Sup, [Name]) || Name <- [a, b, c]],
    scene:observe(),
    Begin = erlang:monotonic_time(millisecond),
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end,
    Time = erlang:monotonic_time(millisecond) - Begin,
    scene:say("three clean-ups of 200 ms end within ~p ms", [(Time div 200) * 200 + 100]).
