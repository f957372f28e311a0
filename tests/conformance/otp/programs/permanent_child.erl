-module(permanent_child).
-export([main/0]).

main() ->
    scene:supervisor(#{}, [scene:spec(it)]),
    scene:observe(),
    scene:fail(it),
    scene:return(it).
