-module(ended_siblings).
-export([main/0]).

main() ->
    Specs = [scene:spec(it), scene:spec(ended, #{restart => transient}), scene:spec(stopped)],
    Sup = scene:supervisor(#{strategy => rest_for_one}, Specs),
    scene:return(ended),
    ok = supervisor:terminate_child(Sup, stopped),
    scene:observe(),
    scene:fail(it).
