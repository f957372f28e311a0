-module(period).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 1, period => 1}, [scene:spec(it)]),
    scene:align(),
    scene:observe(),
    scene:fail(it),
    scene:at(1800),
    scene:fail(it),
    scene:outcome(Sup).
