-module(arguments_of_temporary_children).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, []),
    [{ok, _} = scene:start(Sup, Name, #{restart => Restart}) || {Name, Restart} <- [{a, permanent}, {b, temporary}]],
    scene:observe(),
    [arguments(Sup, Name) || Name <- [a, b]].

arguments(Sup, Name) ->
    {ok, #{start := {_, _, Arguments}}} = supervisor:get_childspec(Sup, Name),
    case Arguments of
        undefined -> scene:say("those of ~s are not kept", [Name]);
        _ -> scene:say("those of ~s are kept", [Name])
    end.
