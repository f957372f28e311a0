-module(group_counts_once).
-export([main/0]).

main() ->
    Flags = #{strategy => one_for_all, intensity => 1},
    Sup = scene:supervisor(Flags, [scene:spec(Name) || Name <- [a, b, c]]),
    scene:observe(),
    scene:fail(c),
    scene:outcome(Sup).
