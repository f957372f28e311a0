-module(temporary_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{restart => temporary})]),
    scene:observe(),
    scene:fail(it),
    scene:children(Sup),
    scene:start(Sup, it, #{restart => temporary}),
    scene:return(it),
    scene:children(Sup).
