-module(longer_ago).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 1, period => 1}, [scene:spec(it)]),
    scene:align(),
    scene:observe(),
    scene:fail(it),
    scene:at(2100),
    scene:fail(it),
    scene:outcome(Sup).
