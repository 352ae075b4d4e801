"""A stand-in for NeuroAPI, which is in no package registry: one route, on the libraries and the development server that it uses, in its
versions, looked up and answered in its way. Started by the bench with that environment's Python; the port is its argument."""

import collections
import collections.abc
import sys

for name in collections.abc.__all__:  # these libraries are older than Python 3.10
    setattr(collections, name, getattr(collections.abc, name))

from flask import Flask  # noqa: E402
from flask_restful import Api, Resource  # noqa: E402
from webargs import fields  # noqa: E402
from webargs.flaskparser import use_kwargs  # noqa: E402


def return_params(params):
    return params


class Function(Resource):
    @use_kwargs({"function": fields.Str(required=True), "params": fields.Dict(required=True)})
    def post(self, function, params):
        return {"result": {"return_params": return_params}[function](**params)}


app = Flask(__name__)
Api(app).add_resource(Function, "/api/v1/function")
app.run("127.0.0.1", int(sys.argv[1]), threaded=True, use_reloader=False, debug=False)
