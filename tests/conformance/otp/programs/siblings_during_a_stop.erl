-module(siblings_during_a_stop).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(a, #{clean_up => 500}), scene:spec(b)]),
    scene:observe(),
    spawn_link(fun() -> ok = supervisor:terminate_child(Sup, a) end),
    scene:settle(),
    scene:fail(b),
    timer:sleep(600).
