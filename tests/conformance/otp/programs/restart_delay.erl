-module(restart_delay).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it)]),
    scene:observe(),
    scene:fail(it),
    scene:children(Sup),
    timer:sleep(500).
