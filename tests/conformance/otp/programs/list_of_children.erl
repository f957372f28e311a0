-module(list_of_children).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(Name) || Name <- [a, b, c]]),
    scene:observe(),
    scene:say("~p, ~p, ~p", [Name || {Name, _, _, _} <- supervisor:which_children(Sup)]).
