-module(rest_for_one).
-export([main/0]).

main() ->
    scene:supervisor(#{strategy => rest_for_one}, [scene:spec(Name) || Name <- [a, b, c, d]]),
    scene:observe(),
    scene:fail(b).
