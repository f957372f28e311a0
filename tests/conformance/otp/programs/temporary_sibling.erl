-module(temporary_sibling).
-export([main/0]).

main() ->
    Specs = [scene:spec(it), scene:spec(other, #{restart => temporary})],
    Sup = scene:supervisor(#{strategy => one_for_all}, Specs),
    scene:observe(),
    scene:fail(it),
    scene:children(Sup).
