-module(stop_of_a_stopped_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it)]),
    scene:observe(),
    ok = supervisor:terminate_child(Sup, it),
    ok = supervisor:terminate_child(Sup, it),
    scene:children(Sup).
