-module(failure_of_a_temporary_child).
-export([main/0]).

main() ->
    Flags = #{strategy => one_for_all, intensity => 0},
    Sup = scene:supervisor(Flags, [scene:spec(other), scene:spec(it, #{restart => temporary})]),
    scene:observe(),
    scene:fail(it),
    scene:outcome(Sup).
