-module(start_order).
-export([main/0]).

main() ->
    scene:observe(),
    Specs = [scene:spec(a, #{starts_in => 100}), scene:spec(b, #{starts_in => 0}), scene:spec(c)],
    scene:supervisor(#{strategy => rest_for_one}, Specs).
