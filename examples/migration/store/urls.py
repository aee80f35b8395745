"""The addresses of the store room."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.views import serve
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home),
    path("page/<str:page>/poll", views.poll),
    path("page/<str:page>/close", views.close),
    path("page/<str:page>/<str:method>", views.act),
    path("here", views.here),
    path("login/", LoginView.as_view()),
    path("logout/", LogoutView.as_view()),
    path("admin/", admin.site.urls),
    path("static/<path:path>", serve, {"insecure": True}),  # in production a static rule of the mount
]
