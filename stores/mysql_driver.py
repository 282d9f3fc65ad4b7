"""The names of PyMySQL that the MySQL store uses, or ``MissingDriver``, which says what brings them.

Nothing else imports the driver, so whichever part of the store is imported first, this is what answers.
"""

from kvflow.errors import MissingDriver

try:
    from pymysql import connect as connect
    from pymysql.connections import Connection as Connection
    from pymysql.constants import CLIENT as CLIENT
    from pymysql.constants import CR as CR
    from pymysql.constants import ER as ER
    from pymysql.constants import SERVER_STATUS as SERVER_STATUS
    from pymysql.converters import decoders as decoders
    from pymysql.cursors import Cursor as Cursor
    from pymysql.err import InterfaceError as InterfaceError
    from pymysql.err import MySQLError as MySQLError
except ImportError as error:
    raise MissingDriver("MySQLStore needs PyMySQL: pip install 'kvflow[mysql]'") from error
