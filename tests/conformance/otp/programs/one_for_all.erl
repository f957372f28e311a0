-module(one_for_all).
-export([main/0]).

main() ->
    scene:supervisor(#{strategy => one_for_all}, [scene:spec(Name) || Name <- [a, b, c, d]]),
    scene:observe(),
    scene:fail(b).
