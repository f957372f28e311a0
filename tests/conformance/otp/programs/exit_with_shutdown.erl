-module(exit_with_shutdown).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{restart => transient})]),
    scene:observe(),
    scene:tell(it, {exit, shutdown}),
    scene:children(Sup).
