-module(one_for_one).
-export([main/0]).

main() ->
    scene:supervisor(#{strategy => one_for_one}, [scene:spec(Name) || Name <- [a, b, c]]),
    scene:observe(),
    scene:fail(b).
