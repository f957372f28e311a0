-module(simple_restarts).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{strategy => simple_one_for_one}, [scene:simple(#{restart => transient})]),
    [{ok, _} = supervisor:start_child(Sup, [Name]) || Name <- [a, b]],
    scene:observe(),
    scene:fail(a).
