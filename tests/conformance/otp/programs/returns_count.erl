-module(returns_count).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{intensity => 1}, [scene:spec(it)]),
    scene:observe(),
    [scene:return(it) || _ <- [1, 2]],
    scene:outcome(Sup).
