-module(no_child_left).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{restart => temporary})]),
    scene:observe(),
    scene:return(it),
    scene:outcome(Sup).
