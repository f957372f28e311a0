-module(taken_name).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b), scene:spec(c, #{restart => temporary})],
    Sup = scene:supervisor(#{}, Specs),
    scene:observe(),
    [ok = supervisor:terminate_child(Sup, Name) || Name <- [b, c]],
    [start(Sup, Name) || Name <- [a, b, c]].

start(Sup, Name) ->
    case scene:start(Sup, Name) of
        {error, {already_started, _}} -> scene:say("~s is taken", [Name]);
        {error, already_present} -> scene:say("~s is taken", [Name]);
        {ok, _} -> ok
    end.
