-module(broken_restart_rest_for_one).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b, #{broken_runs => [2]})],
    scene:supervisor(#{strategy => rest_for_one}, Specs),
    scene:observe(),
    scene:fail(a).
