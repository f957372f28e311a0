%% Children that say what they do, and a supervisor that has them. What a program prints is its record.
-module(scene).
-behaviour(supervisor).
-export([supervisor/2, spec/1, spec/2, simple/1, tree/3, start/2, start/3]).
-export([fail/1, return/1, tell/2, together/2, settle/0, align/0, at/1]).
-export([say/1, say/2, observe/0, children/1, outcome/1]).
-export([init/1, start_link/2, init_child/3]).

%% Supervisors

%% Start a supervisor of these children. Its intensity is 10 unless a program is about another one.
supervisor(Flags, Specs) ->
    process_flag(trap_exit, true),
    {ok, Sup} = supervisor:start_link(?MODULE, {Flags, Specs}),
    Sup.

init({Flags, Specs}) ->
    case ets:whereis(runs) of
        undefined -> ets:new(runs, [named_table, public]);
        _ -> ok
    end,
    {ok, {maps:merge(#{intensity => 10}, Flags), Specs}};
init({Name, Flags, Specs}) ->
    say("~s starts", [Name]),
    register(Name, self()),
    init({Flags, Specs}).

%% The child spec of a child, with keys of a spec and those of a child's behaviour:
%% - clean_up: the milliseconds between being told to stop and the end; forever; fails
%% - starts_in: the milliseconds until its start function returns
%% - broken_runs: the numbers of its runs whose start function fails, after starts_in
%% - quiet: whether it says nothing
spec(Name) ->
    spec(Name, #{}).

spec(Name, Options) ->
    Spec = maps:with([restart, shutdown], Options),
    Spec#{id => Name, start => {?MODULE, start_link, [Options, Name]}}.

%% The same of the children of a simple_one_for_one supervisor, whose names are given to start_child.
simple(Options) ->
    Spec = maps:with([restart, shutdown], Options),
    Spec#{id => child, start => {?MODULE, start_link, [Options]}}.

%% The child spec of a supervisor that is a child.
tree(Name, Flags, Specs) ->
    Spec = maps:with([restart], Flags),
    Start = {supervisor, start_link, [?MODULE, {Name, maps:without([restart], Flags), Specs}]},
    Spec#{id => Name, start => Start, type => supervisor}.

start(Sup, Name) ->
    start(Sup, Name, #{}).

start(Sup, Name, Options) ->
    supervisor:start_child(Sup, spec(Name, Options)).

%% Children

start_link(Options, Name) ->
    proc_lib:start_link(?MODULE, init_child, [self(), Options, Name]).

init_child(Parent, Options, Name) ->
    process_flag(trap_exit, true),
    Run = ets:update_counter(runs, Name, 1, {Name, 0}),
    say_as(Name, "starts", Options),
    timer:sleep(maps:get(starts_in, Options, 0)),
    case lists:member(Run, maps:get(broken_runs, Options, [])) of
        true ->
            say_as(Name, "fails", Options),
            proc_lib:init_ack(Parent, {error, broken});
        false ->
            [say_as(Name, "is ready", Options) || maps:is_key(starts_in, Options)],
            register(Name, self()),
            proc_lib:init_ack(Parent, {ok, self()}),
            run(Name, Options)
    end.

run(Name, Options) ->
    receive
        fail ->
            say_as(Name, "fails", Options),
            exit(broken);
        return ->
            say_as(Name, "returns", Options);
        {exit, Reason} ->
            say("~s exits with ~p", [Name, Reason]),
            exit(Reason);
        {'EXIT', _, Reason} ->
            say_as(Name, "stops", Options),
            clean_up(Name, Options, Reason)
    end.

clean_up(Name, Options, Reason) ->
    case maps:get(clean_up, Options, 0) of
        0 -> exit(Reason);
        forever -> timer:sleep(infinity);
        fails -> run_clean_up(Name, Options, 0, "fails in its clean-up", broken);
        Time -> run_clean_up(Name, Options, Time, "has stopped", Reason)
    end.

run_clean_up(Name, Options, Time, What, Reason) ->
    timer:sleep(Time),
    say_as(Name, What, Options),
    exit(Reason).

%% Actions

fail(Name) ->
    tell(Name, fail).

return(Name) ->
    tell(Name, return).

tell(Name, What) ->
    Name ! What,
    settle().

%% Let children fail before their supervisor hears of any of them, in this order.
together(Sup, Names) ->
    ok = sys:suspend(Sup),
    [fail_and_wait(Name) || Name <- Names],
    ok = sys:resume(Sup),
    settle().

fail_and_wait(Name) ->
    Ref = monitor(process, Name),
    Name ! fail,
    receive {'DOWN', Ref, _, _, _} -> ok end.

%% Let the supervisor and its children do what is to be done.
settle() ->
    timer:sleep(100).

%% Wait for the begin of a second of the clock by which a supervisor counts restarts, in whole seconds.
align() ->
    Now = erlang:monotonic_time(millisecond),
    timer:sleep(1050 - ((Now rem 1000 + 1000) rem 1000)),
    put(origin, erlang:monotonic_time(millisecond)).

%% Wait until these milliseconds have passed since the call of align().
at(Time) ->
    timer:sleep(max(0, get(origin) + Time - erlang:monotonic_time(millisecond))).

%% Words

say(Words) ->
    say(Words, []).

say(Format, Values) ->
    io:format(Format ++ "~n", Values).

say_as(_, _, #{quiet := true}) ->
    ok;
say_as(Name, What, _) ->
    say("~s ~s", [Name, What]).

%% What is printed before is how the scene is set.
observe() ->
    say("--").

%% Say which children there are, in start order.
children(Sup) ->
    case [child(Child) || Child <- lists:reverse(supervisor:which_children(Sup))] of
        [] -> say("no child is known");
        States -> say(lists:join(", ", States))
    end.

child({Name, Pid, _, _}) when is_pid(Pid) -> io_lib:format("~s runs", [Name]);
child({Name, _, _, _}) -> io_lib:format("~s does not run", [Name]).

%% Say whether the supervisor of this program has given up.
outcome(Sup) ->
    receive
        {'EXIT', Sup, _} -> say("the supervisor gives up")
    after 200 -> say("the supervisor runs")
    end.
