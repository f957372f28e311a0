-module(stopped_child).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b, #{restart => transient}), scene:spec(c, #{restart => temporary})],
    Sup = scene:supervisor(#{}, Specs),
    scene:observe(),
    [ok = supervisor:terminate_child(Sup, Name) || Name <- [a, b, c]],
    scene:settle(),
    scene:children(Sup).
