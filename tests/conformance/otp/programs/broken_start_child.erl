-module(broken_start_child).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, []),
    scene:observe(),
    {error, {broken, _}} = scene:start(Sup, it, #{broken_runs => [1]}),
    scene:say("start_child returns an error"),
    scene:children(Sup).
