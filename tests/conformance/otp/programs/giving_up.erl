-module(giving_up).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 0}, [scene:spec(Name) || Name <- [a, b, c]]),
    scene:observe(),
    scene:fail(b),
    scene:outcome(Sup).
