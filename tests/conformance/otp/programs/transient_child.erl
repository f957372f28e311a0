-module(transient_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{restart => transient})]),
    scene:observe(),
    scene:fail(it),
    scene:return(it),
    scene:children(Sup).
