-module(clean_up_in_a_group).
-export([main/0]).

main() ->
    Specs = [scene:spec(a), scene:spec(b, #{clean_up => 200}), scene:spec(c, #{clean_up => 200})],
    scene:supervisor(#{strategy => one_for_all}, Specs),
    scene:observe(),
    scene:fail(a),
    timer:sleep(500).
