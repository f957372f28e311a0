-module(together_one_for_all).
-export([main/0]).

main() ->
    Flags = #{strategy => one_for_all, intensity => 1},
    Sup = scene:supervisor(Flags, [scene:spec(Name) || Name <- [a, b]]),
    scene:observe(),
    scene:together(Sup, [b, a]),
    scene:outcome(Sup).
