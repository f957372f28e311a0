-module(shutdown_of_a_tree).
-export([main/0]).

main() ->
    Tree = scene:tree(branch, #{}, [scene:spec(b), scene:spec(c)]),
    Sup = scene:supervisor(#{}, [scene:spec(a), Tree, scene:spec(d)]),
    scene:observe(),
    exit(Sup, shutdown),
    scene:settle().
