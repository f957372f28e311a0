-module(broken_start).
-export([main/0]).

main() ->
    process_flag(trap_exit, true),
    scene:observe(),
    Specs = [scene:spec(a), scene:spec(b, #{broken_runs => [1]})],
    {error, {shutdown, _}} = supervisor:start_link(scene, {#{}, Specs}),
    scene:say("the supervisor does not start").
