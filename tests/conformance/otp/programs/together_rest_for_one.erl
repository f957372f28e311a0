-module(together_rest_for_one).
-export([main/0]).

main() ->
    Flags = #{strategy => rest_for_one, intensity => 1},
    Sup = scene:supervisor(Flags, [scene:spec(Name) || Name <- [a, b]]),
    scene:observe(),
    scene:together(Sup, [a, b]),
    scene:outcome(Sup).
