-module(intensity).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 2}, [scene:spec(it)]),
    scene:observe(),
    [scene:fail(it) || _ <- [1, 2, 3]],
    scene:outcome(Sup).
