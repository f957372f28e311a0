-module(transient_supervisor).
-export([main/0]).

main() ->
    Tree = scene:tree(branch, #{intensity => 0, restart => transient}, [scene:spec(it)]),
    Sup = scene:supervisor(#{}, [Tree]),
    scene:observe(),
    scene:fail(it),
    scene:children(Sup).
