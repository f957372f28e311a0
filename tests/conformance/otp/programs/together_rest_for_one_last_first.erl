-module(together_rest_for_one_last_first).
-export([main/0]).

main() ->
    Flags = #{strategy => rest_for_one},
    Sup = scene:supervisor(Flags, [scene:spec(Name) || Name <- [a, b]]),
    scene:observe(),
    scene:together(Sup, [b, a]).
