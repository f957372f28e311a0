-module(broken_restart_one_for_all).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b, #{broken_runs => [2]})],
    scene:supervisor(#{strategy => one_for_all}, Specs),
    scene:observe(),
    scene:fail(a).
