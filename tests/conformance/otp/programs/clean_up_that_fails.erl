-module(clean_up_that_fails).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{}, [scene:spec(it, #{clean_up => fails})]),
    scene:observe(),
    ok = supervisor:terminate_child(Sup, it),
    scene:settle(),
    scene:children(Sup).
