-module(simple_forgets).
-export([main/0]).

main() ->
    Sup = scene:supervisor(#{strategy => simple_one_for_one}, [scene:simple(#{restart => transient})]),
    [{ok, _}, {ok, B}] = [supervisor:start_child(Sup, [Name]) || Name <- [a, b]],
    scene:observe(),
    scene:return(a),
    ok = supervisor:terminate_child(Sup, B),
    scene:children(Sup).
