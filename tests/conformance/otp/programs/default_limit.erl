-module(default_limit).
-behaviour(supervisor).
-export([main/0, init/1]).

main() ->
    process_flag(trap_exit, true),
    ets:new(runs, [named_table, public]),
    {ok, Sup} = supervisor:start_link(?MODULE, [scene:spec(it, #{quiet => true})]),
    scene:observe(),
    fail(Sup, 0).

init(Specs) ->
    {ok, {#{}, Specs}}.

fail(Sup, Restarts) ->
    it ! fail,
    receive
        {'EXIT', Sup, _} -> scene:say("restarts made: ~p", [Restarts])
    after 100 -> fail(Sup, Restarts + 1)
    end.
