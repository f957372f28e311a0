-module(escalation_in_a_tree).
-export([main/0]).

main() ->
    Tree = scene:tree(branch, #{intensity => 0}, [scene:spec(a), scene:spec(b)]),
    scene:supervisor(#{}, [scene:spec(other), Tree]),
    scene:start(branch, added),
    scene:observe(),
    scene:fail(a).
